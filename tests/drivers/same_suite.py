"""Compares two runs of one test suite: same_suite.py DIRECT.xml PROXIED.xml EXCEPTIONS.txt

What passes directly must pass through the proxy, but for the tests that EXCEPTIONS.txt names, each with its
reason: lines of `name: reason`, `#` before remarks. A name ends with the test's own, a `*` stands for the rest.
"""

import fnmatch
import sys
import xml.etree.ElementTree as tree


def passed(path):
    """Test name -> whether it passed; skipped ones are left out. A subtest's failure is its test's."""
    found = {}
    for case in tree.parse(path).iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        outcomes = {child.tag for child in case}
        if "skipped" not in outcomes:
            found[name] = found.get(name, True) and not outcomes & {"failure", "error"}
    return found


def read_exceptions(path):
    with open(path, encoding="utf-8") as file:
        lines = [line.strip() for line in file if line.strip() and not line.startswith("#")]
    exceptions = dict(line.split(": ", 1) for line in lines)
    assert all(reason.strip() for reason in exceptions.values()), "an exception without a reason"
    return exceptions


def main():
    direct, proxied = passed(sys.argv[1]), passed(sys.argv[2])
    exceptions = read_exceptions(sys.argv[3])
    expected = [name for name, ok in direct.items() if ok]
    failed = [name for name in expected if not proxied.get(name, False)]
    excepted = [n for n in failed if any(fnmatch.fnmatch(n, f"*{e}") for e in exceptions)]
    wrong = sorted(set(failed) - set(excepted))
    print(f"{len(expected)} pass directly, {len(expected) - len(failed)} through the proxy,"
          f" {len(excepted)} excepted")
    for name in wrong:
        print(f"fails through the proxy only: {name}")
    assert len(expected) > 100, "the suite did not run"
    sys.exit(bool(wrong))


main()
