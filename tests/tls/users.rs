//! Users: every method, keys that are passed through, limits, and guessers.
