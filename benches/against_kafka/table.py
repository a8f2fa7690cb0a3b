"""What the tables of all comparisons share."""


def figure(result, name):
    """`latency.p99.9_ms` is `p99.9_ms` of `latency`."""
    if name in result:
        return result[name]
    head, tail = name.split(".", 1)
    return figure(result[head], tail)


def number(value):
    return "" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def met(row, value, bound):
    return value >= bound if row.at_least else value <= bound


def target(row):
    return f"{'≥' if row.at_least else '≤'} {row.must:.3g} ({row.aim:.3g}){' absolute' if row.absolute else ''}"
