"""Tests of the consumer on the formatter's golden files: python3 -m unittest discover deploy/consumer"""

import copy
import csv
import json
import pathlib
import tempfile
import unittest

import consumer

GOLDEN = pathlib.Path(__file__).parents[2] / "tests/golden"


def golden(name):
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def envelope(first, last, part=1, parts=1, gaps=(), stream="a-1"):
    gaps = [{"first": low, "last": high, "cause": "queue_full"} for low, high in gaps]
    whole = golden("empty")
    whole["stream"] = {"id": stream, "first": first, "last": last, "part": part, "parts": parts, "gaps": gaps}
    return whole


def report(*envelopes):
    reader = consumer.Consumer()
    for one in envelopes:
        reader.add(copy.deepcopy(one))
    return reader.report()


class Numbers(unittest.TestCase):
    def test_repeats_count_once_and_covered_wins_over_a_gap(self):
        result = report(envelope(1, 1), envelope(2, 4), envelope(1, 1), envelope(7, 7, gaps=[(4, 6)]))
        self.assertEqual(result["rows"], 3)
        stream = result["streams"]["a-1"]
        self.assertEqual((stream["covered"], stream["lost"], stream["missing"]), ([[1, 4], [7, 7]], [[5, 6]], []))

    def test_a_number_that_nobody_names_is_missing(self):
        self.assertEqual(report(envelope(3, 3))["streams"]["a-1"]["missing"], [[1, 2]])

    def test_half_an_envelope_covers_nothing_and_a_repeat_may_be_cut_differently(self):
        half = [envelope(1, 1, 1, 2)]
        self.assertEqual(report(*half)["streams"]["a-1"]["missing"], [[1, 1]])
        thirds = [envelope(1, 1, part, 3) for part in (3, 1, 2)]
        late = [envelope(1, 1, 2, 2)]
        result = report(*half, *thirds, *late)
        self.assertEqual((result["rows"], result["streams"]["a-1"]["covered"]), (1, [[1, 1]]))

    def test_a_chain_of_previous_streams_is_followed(self):
        streams = report(golden("first"))["streams"]
        self.assertEqual(streams["main-11"]["lost"], [[3, 7]])
        self.assertEqual(streams["main-11"]["missing"], [[1, 2]])
        self.assertEqual(streams["main-10"]["lost"], [[899, 899]])
        self.assertEqual(streams["main-10"]["last"], 900)
        self.assertEqual(streams["main-22"]["covered"], [[1, 1]])

    def test_gaps_of_a_part_are_known_before_it_is_whole(self):
        stream = report(golden("part"))["streams"]["out/scheduler-2"]
        self.assertEqual((stream["lost"], stream["missing"]), ([[1, 11]], [[12, 13]]))


class Rows(unittest.TestCase):
    def test_quantiles_are_the_middle_of_their_bucket(self):
        self.assertEqual(consumer.lowest(107), (8 + 3) << 12)
        row = consumer.row([golden("example")])
        name = "block_io.latency{device=vda,operation=read}"
        self.assertEqual((row[f"{name}:count"], row[f"{name}:sum"]), (120, 6120455))
        self.assertEqual(row[f"{name}:p50"], (consumer.lowest(108) + consumer.lowest(109) - 1) / 2)
        self.assertEqual(row[f"{name}:p99"], (consumer.lowest(109) + consumer.lowest(110) - 1) / 2)

    def test_two_entities_of_one_name_have_columns_of_their_own(self):
        example = golden("example")
        counters = example["sources"][0]["metrics"][0]
        replaced = copy.deepcopy(counters["series"][0])
        replaced["device"]["id"] = "254:16"
        replaced["value"] = 7
        counters["series"].append(replaced)
        row = consumer.row([example])
        self.assertEqual(row["block_io.requests{device=vda,operation=read}"], 120)
        self.assertEqual(row["block_io.requests{device=254:16,operation=read}"], 7)

    def test_every_bucket_holds_its_own_middle(self):
        for i in range(495):
            middle = (consumer.lowest(i) + consumer.lowest(i + 1) - 1) // 2
            shift = max(middle.bit_length() - 4, 0)
            self.assertEqual(8 * shift + (middle >> shift), i)

    def test_rows_of_different_columns_make_one_table(self):
        rows = [consumer.row([golden(name)]) for name in ("example", "first", "empty")]
        with tempfile.TemporaryDirectory() as folder:
            path = str(pathlib.Path(folder) / "rows.csv")
            consumer.write(rows, path)
            with open(path, newline="", encoding="utf-8") as file:
                found = list(csv.DictReader(file))
        self.assertEqual([row["host"] for row in found], ["", "b\u00fcro", "web-1"])
        self.assertEqual(found[1]["block_io.size{device=sdb,operation=write}:sum"], str(2**64 - 1))
        self.assertEqual(found[0]["block_io.size{device=sdb,operation=write}:sum"], "")


if __name__ == "__main__":
    unittest.main()
