"""Reads texts, one a line, finds near-duplicates with datasketch, and says how many there are and how long it took:
from the text to the verified pairs, by batched updates and a fast hash, its quickest way.
"""

import json
import re
import sys
import time
import zlib

from datasketch import MinHash, MinHashLSH

threshold, bands, rows = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
texts = sys.stdin.read().splitlines()
word = re.compile(r"\w+")


def shingles(text):
    words = word.findall(text.lower())
    return {" ".join(words[i : i + 3]).encode() for i in range(max(1, len(words) - 2))}


def crc(data):
    return zlib.crc32(data)


def run():
    lsh = MinHashLSH(num_perm=bands * rows, params=(bands, rows))
    base = MinHash(num_perm=bands * rows, hashfunc=crc)
    sets, pairs = [], 0
    for i, text in enumerate(texts):
        own = shingles(text)
        signature = base.copy()
        signature.update_batch(list(own))
        for other in lsh.query(signature):
            if len(own & sets[other]) / len(own | sets[other]) >= threshold:
                pairs += 1
        lsh.insert(i, signature, check_duplication=False)
        sets.append(own)
    return pairs


run()
started = time.perf_counter()
found = run()
print(json.dumps({"seconds": time.perf_counter() - started, "pairs": found}))
