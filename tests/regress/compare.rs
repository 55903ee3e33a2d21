//! Whether two outputs are the same.

/// How two outputs differ.
pub(crate) struct Difference {
    /// Lines of either that the other does not have at that place.
    pub(crate) lines: usize,
    /// The first of them, for people to read.
    pub(crate) first: String,
}

/// Lines shown before the first difference, and from it on.
const CONTEXT: usize = 8;

/// `None` when they are the same.
pub(crate) fn difference(direct: &[u8], proxied: &[u8]) -> Option<Difference> {
    let (direct, proxied) = (normalised(direct), normalised(proxied));
    if direct == proxied {
        return None;
    }
    let (direct, proxied) = (String::from_utf8_lossy(&direct), String::from_utf8_lossy(&proxied));
    let (direct, proxied): (Vec<_>, Vec<_>) = (direct.lines().collect(), proxied.lines().collect());
    let same = direct.iter().zip(&proxied).take_while(|(one, other)| one == other).count();
    let tail = direct[same..]
        .iter()
        .rev()
        .zip(proxied[same..].iter().rev())
        .take_while(|(one, other)| one == other)
        .count();
    let lines = direct.len().max(proxied.len()) - same - tail;
    let shown = |mark: &str, lines: &[&str]| {
        lines.iter().take(CONTEXT).flat_map(|line| [mark, line, "\n"]).collect::<String>()
    };
    let first = shown(" ", &direct[same.saturating_sub(CONTEXT)..same])
        + &shown("-", &direct[same..direct.len() - tail])
        + &shown("+", &proxied[same..proxied.len() - tail]);
    Some(Difference { lines, first })
}

/// Without what can't be the same on two servers.
pub(crate) fn normalised(text: &[u8]) -> Vec<u8> {
    text.to_vec()
}
