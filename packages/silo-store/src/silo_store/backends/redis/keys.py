"""``Keys``, the names of the keys of one prefix.

All keys of one prefix have the same hash tag, so a cluster keeps them on one node and each script may use them all.

================ ======= ===========================================================================
key              type    holds
================ ======= ===========================================================================
``s:<sid>``      string  a record: see ``records.HEAD``
``l:<uid>``      hash    large namespaces, which are kept apart from the record: see ``records.VERSION``
``a:<uid>``      hash    what is attached to the session, in the same form
``u:<shard>``    hash    ids of records by uid, see ``SHARDS``; ``DUE`` removes those whose records the server dropped
``count``        string  number of all these ids
``due:<bucket>`` list    uids of records by the bucket of their last known use, see ``BUCKET``
``due``          zset    the existing buckets
``gone``         zset    expired ids, and when each expired
``ended``        zset    ``sid uid`` of lives whose callbacks have not run, and until when they are claimed
``t:<sid>``      string  token of the claim on a session
``q:<sid>``      list    tokens of the processes that wait for it
``w:<token>``    list    the record, with which a waiting process is woken
``w:<token>:on`` string  sign of life of a waiting process; expires unless repeated
``h:<uid>``      zset    owners that hold a life, and until when
``r:<sid>``      string  when a life was renamed from this id
``epoch``        string  ``LAYOUT``, and a name of the server's set of records: another one, or none, after all records
                         were lost
``lost``         string  when the loss was noticed
``noted``        string  the epoch in which the loss was noticed
================ ======= ===========================================================================

A record's keys have a time-to-live of their own, far longer than the session's. If no process sweeps any longer, the
server cleans up.
"""

from __future__ import annotations

LAYOUT = "2"
"""The form of the keys and values. Another form needs another number."""
BUCKET = 8
"""Seconds of last use that share a bucket. A life moves to its current bucket when its old one comes up, not when it is
used. So using a session changes only its record, and each is looked at about once per time-to-live."""
SHARDS = 1024
"""Number of hashes of ids by uid. Redis packs a hash of up to 512 entries. Up to half a million sessions, an entry
takes 52 bytes instead of 94, and finding it up to 3 us instead of 1."""


class Keys:
    """The names of the keys of one prefix."""

    def __init__(self, prefix: str) -> None:
        base = f"{{{prefix}}}:"
        self.base: str = base
        self.record: str = base + "s:"
        self.large: str = base + "l:"
        self.attached: str = base + "a:"
        self.count: str = base + "count"
        self.claim: str = base + "t:"
        self.queue: str = base + "q:"
        self.wake: str = base + "w:"
        self.hold: str = base + "h:"
        self.rotated: str = base + "r:"
        self.bucket: str = base + "due:"
        self.buckets: str = base + "due"
        self.gone: str = base + "gone"
        self.ended: str = base + "ended"
        self.epoch: str = base + "epoch"
        self.lost: str = base + "lost"
        self.noted: str = base + "noted"
