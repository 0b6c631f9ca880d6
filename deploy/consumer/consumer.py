"""Reads envelopes of DataFlux Probe from Kafka, accounts for every number, and writes one wide row per host and window.

docs/envelope.md of the project is the contract that this follows.
"""

import argparse
import collections
import csv
import importlib.util
import itertools
import json
import math
import sys
import time

QUANTILES = (0.5, 0.9, 0.99)


def lowest(i):
    """The lowest value of a bucket of log_linear/3."""
    return i if i < 8 else (8 + i % 8) << (i // 8 - 1)


def quantile(index, counts, q):
    """The middle of the bucket that holds a quantile, at most 6.25 % off; None of nothing."""
    if not sum(counts):
        return None
    rank = max(math.ceil(q * sum(counts)), 1)
    i = next(i for i, seen in zip(index, itertools.accumulate(counts)) if seen >= rank)
    return (lowest(i) + lowest(i + 1) - 1) / 2


class Stream:
    """What is known of one stream: the ranges that are complete, and the gaps that were told."""

    def __init__(self):
        self.partial = {}  # (first, last, parts) -> {part: envelope}
        self.ranges = {}  # first -> last
        self.gaps = {}  # (first, last) -> cause
        self.last = 0

    def add(self, envelope):
        """The whole envelope as a list of its parts when it has become complete, otherwise None."""
        place = envelope["stream"]
        first, last = place["first"], place["last"]
        self.last = max(self.last, last)
        self.lose(place["gaps"])
        if first in self.ranges:
            return None  # a repeat
        parts = self.partial.setdefault((first, last, place["parts"]), {})
        parts[place["part"]] = envelope
        if len(parts) < place["parts"]:
            return None
        self.ranges[first] = last
        for key in [key for key in self.partial if key[0] == first]:
            del self.partial[key]
        return [parts[part] for part in sorted(parts)]

    def lose(self, gaps):
        for gap in gaps:
            self.gaps[gap["first"], gap["last"]] = gap["cause"]
            self.last = max(self.last, gap["last"])

    def report(self):
        """Numbers as [first, last]. Covered wins over lost; missing is neither, and may still come."""
        covered = sorted(self.ranges.items())
        lost = subtract(sorted(self.gaps), covered)
        missing = subtract([(1, self.last)] if self.last else [], sorted(covered + lost))
        return {"last": self.last, "covered": joined(covered), "lost": joined(lost), "missing": joined(missing),
                "merged": sum(last > first for first, last in covered),
                "causes": sorted(set(self.gaps.values()))}


def joined(ranges):
    """Neighbours become one."""
    result = []
    for first, last in sorted(ranges):
        if result and first <= result[-1][1] + 1:
            result[-1][1] = max(result[-1][1], last)
        else:
            result.append([first, last])
    return result


def subtract(ranges, taken):
    """What of some ranges is in none of the sorted others."""
    result = []
    for first, last in joined(ranges):
        for low, high in joined(taken):
            if low > last or high < first:
                continue
            if first < low:
                result.append((first, low - 1))
            first = high + 1
        if first <= last:
            result.append((first, last))
    return result


class Consumer:
    """Every stream that was seen, and the rows of complete envelopes."""

    def __init__(self):
        self.streams = collections.defaultdict(Stream)
        self.rows = []
        self.received = 0

    def add(self, envelope):
        if not envelope["schema"].startswith("dataflux.envelope/1"):
            raise ValueError(f"unknown schema {envelope['schema']}")
        self.received += 1
        self.before(envelope["stream"].get("previous"))
        parts = self.streams[envelope["stream"]["id"]].add(envelope)
        if parts:
            self.rows.append(row(parts))

    def before(self, previous):
        """The end of the stream before, and of those before that."""
        while previous:
            stream = self.streams[previous["id"]]
            stream.last = max(stream.last, previous["last"])
            stream.lose(previous["gaps"])
            previous = previous.get("previous")

    def report(self):
        streams = {name: stream.report() for name, stream in sorted(self.streams.items())}
        return {"received": self.received, "rows": len(self.rows), "streams": streams}


def row(parts):
    """One wide row of the parts of one envelope: a column for every value, named metric{labels}."""
    whole = parts[0]
    place = whole["stream"]
    columns = {"host": whole["header"].get("host", {}).get("name", ""), "stream": place["id"],
               "first": place["first"], "last": place["last"], "start_time": whole["start_time"],
               "stop_time": whole["stop_time"], "duration_ns": whole["duration_ns"]}
    for source in (source for part in parts for source in part["sources"]):
        columns[f"{source['reader']}:status"] = source["status"]
        columns[f"{source['reader']}:covered_ns"] = source["covered_ns"]
        columns[f"{source['reader']}:lost"] = source["lost"]
        for metric in source["metrics"]:
            for series in metric["series"]:
                values = cells(metric, series)
                if not columns.keys().isdisjoint(values):
                    values = cells(metric, series, ("id", "name"))  # another entity of that name
                columns.update(values)
    return columns


def cells(metric, series, by=("name", "id")):
    entity = {kind: next((series[kind][key] for key in by if key in series[kind]), "other")
              for kind in ("device", "interface") if kind in series}
    labels = ",".join(f"{key}={value}" for key, value in sorted({**entity, **series.get("labels", {})}.items()))
    name = metric["name"] + (f"{{{labels}}}" if labels else "")
    if metric["kind"] != "histogram":
        return {name: series["value"]}
    index, counts = series["index"], series["counts"]
    return {f"{name}:count": sum(counts), f"{name}:sum": series["sum"],
            **{f"{name}:p{q * 100:g}": quantile(index, counts, q) for q in QUANTILES}}


def write(rows, path):
    """CSV, or Parquet if the name says so. Columns are those of all rows; what a row does not have stays empty."""
    rows = sorted(rows, key=lambda row: (row["host"], row["stream"], row["first"]))
    columns = list(dict.fromkeys(itertools.chain.from_iterable(rows)))
    if path.endswith(".parquet"):
        import pyarrow
        import pyarrow.parquet
        table = {column: [row.get(column) for row in rows] for column in columns}
        wide = pyarrow.uint64()  # sums and totals reach 2^64 - 1
        large = {column for column, values in table.items() if any(isinstance(v, int) and v >= 2**63 for v in values)}
        pyarrow.parquet.write_table(
            pyarrow.table({column: pyarrow.array(values, wide if column in large else None)
                           for column, values in table.items()}), path)
        return
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def envelopes(options):
    """Decoded records of a topic until it is quiet, or those of standard input."""
    if options.brokers is None:
        yield from (json.loads(line) for line in sys.stdin if line.strip())
        return
    from confluent_kafka import Consumer as Client
    settings = {"bootstrap.servers": options.brokers, "group.id": options.group, "auto.offset.reset": "earliest",
                "enable.auto.commit": False, "allow.auto.create.topics": False,
                **dict(setting.split("=", 1) for setting in options.setting)}
    client = Client(settings)
    client.subscribe([options.topic])
    heard = time.monotonic()
    try:
        while options.quiet is None or time.monotonic() - heard < options.quiet:
            message = client.poll(0.2)
            if message is None or message.error():
                continue  # errors of brokers heal; librdkafka goes on by itself
            heard = time.monotonic()
            for line in message.value().splitlines():
                yield json.loads(line)
    except KeyboardInterrupt:
        pass
    finally:
        client.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--brokers", help="HOST:PORT,...; without it JSON lines are read from standard input")
    parser.add_argument("--topic", default="dataflux")
    parser.add_argument("--group", default=f"dataflux-consumer-{time.time_ns()}")
    parser.add_argument("--setting", action="append", default=[], metavar="KEY=VALUE", help="of librdkafka, for security")
    parser.add_argument("--quiet", type=float, metavar="SECONDS", help="end when nothing came for so long")
    parser.add_argument("--rows", metavar="FILE", help="where the rows go: .csv or .parquet")
    options = parser.parse_args()
    if options.rows and options.rows.endswith(".parquet") and not importlib.util.find_spec("pyarrow"):
        parser.error("rows in Parquet need pyarrow: pip install pyarrow")
    consumer = Consumer()
    for envelope in envelopes(options):
        consumer.add(envelope)
    if options.rows:
        write(consumer.rows, options.rows)
    json.dump(consumer.report(), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
