"""`MODEL_CARD.md`: a version of a bundle on one page, for whoever decides whether to use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras_privpart.contract import Contract, TensorSpec
from keras_privpart.threat_model import ThreatModel

CARD_FILE = "MODEL_CARD.md"


def model_card(contract: Contract) -> str:
    """The card in Markdown. It has no date, so that equal exports are equal; the report has one.

    Args:
        contract: with audit and measurements.
    """
    threat = None if contract.threat_model is None else ThreatModel.from_json(contract.threat_model)
    sections = [
        [f"# Model card: {contract.name}, version {contract.version}", _purpose(contract)],
        ["## What leaves the device", *_crossing(contract)],
        ["## How well it does its task", _accuracy(contract.audit)],
        ["## What attackers still read", *_attacks(contract.audit)],
        ["## Who is trusted, and what is not promised", "No threat model was declared." if threat is None else _listed(threat.describe())],
        ["## How to check and use it", _use(contract)],
    ]
    return "\n\n".join(line for section in sections for line in section) + "\n"


def leakage_words(audit: Mapping[str, Any] | None) -> str:
    """What a contract's audit found, in a few words."""
    if audit is None:
        return "not audited, so that nothing is known about what an attacker reads"
    found = [f"{kind} leaks {_number(facts.get('leakage'), 'an undefined share')}" for kind, facts in audit.get("kinds", {}).items()]
    return f"{', '.join(found) or 'nothing was attacked'} (0 is nothing beyond the decision, 1 as much as undefended)"


def _purpose(contract: Contract) -> str:
    return (
        f"A model in two halves, made by keras_privpart. The device half takes {_specs(contract.inputs)} and stays with the user; the "
        f"server half answers {_specs(contract.outputs)}. It is meant for servers that are curious, not for such as must learn nothing: "
        "privacy partitioning lowers what a server can read, and is no cryptography."
    )


def _specs(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"`{spec.name}` {spec.dtype}{list(spec.shape)}" for spec in specs)


def _crossing(contract: Contract) -> list[str]:
    encoded = "as the model computes it" if contract.encoding == "none" else f"encoded as {contract.encoding}"
    channel = ", ".join(str(layer.get("class", "")).rpartition(">")[2] for layer in contract.channel) or "none"
    return [
        f"- {contract.boundary}, {encoded}; never the input itself\n- defence on the boundary: {channel}\n"
        f"- device half optimised: {contract.optimization}; its forms: {', '.join(contract.formats)}"
    ]


def _accuracy(audit: Mapping[str, Any] | None) -> str:
    found = (audit or {}).get("task_accuracy", {})
    if found.get("defended") is None:
        return "Not measured." if audit is None else "Not applicable: the task has no accuracy."
    beside = "" if found.get("reference") is None else f", where the undefended model is right for {100 * found['reference']:.1f} %"
    return f"Right for {100 * found['defended']:.1f} % of {audit.get('victims', 0) if audit else 0:,} test examples{beside}."


def _attacks(audit: Mapping[str, Any] | None) -> list[str]:
    if audit is None:
        return ["**Not audited.** Nothing is known about what an attacker reads. Audit it before use: `privpart-keras audit`."]
    rows = [
        "| attacked | strongest attack | its score | floor: decision alone | ceiling: undefended | leakage |",
        "|---|---|---|---|---|---|",
    ]
    rows += [f"| {kind} | {' | '.join(_cells(facts))} |" for kind, facts in audit.get("kinds", {}).items()]
    low = audit.get("effort", {}).get("low")
    return [
        "\n".join(rows),
        *(["**Attackers were trained less than those of a full audit, and may have found less than there is.**"] if low else []),
        "Leakage is where the attack stands between floor and ceiling: 0 is nothing beyond the decision, 1 as bad as undefended. Undefined "
        "means that an undefended boundary tells hardly more than the decision, so that there is nothing to compare with; that is no sign "
        f"of privacy. Fresh attackers of each kind: {audit.get('seeds', 'unknown')}; victims: {audit.get('victims', 0):,}. The whole audit "
        "is `report.json`, and `index.html` where it could be made, beside this page.",
    ]


def _cells(facts: Mapping[str, Any]) -> list[str]:
    """Of a kind; what another version left out is not measured."""
    score = f"{facts.get('score', 'score')} {'at least ' if facts.get('at_least') else ''}{_number(facts.get('boundary'))}"
    sides = [_number(facts.get(side)) for side in ("floor", "ceiling")]
    return [facts.get("attack", "not named"), score, *sides, _number(facts.get("leakage"), "undefined", 2)]


def _listed(words: str) -> str:
    """Lines and lists as Markdown: a blank line where one ends."""
    lines = words.splitlines()
    return "\n".join(f"\n{line}" if i and line.startswith("- ") != lines[i - 1].startswith("- ") else line for i, line in enumerate(lines))


def _use(contract: Contract) -> str:
    made = ", ".join(f"{package} {version}" for package, version in sorted(contract.made_with.items()))
    return (
        f"`privpart-keras inspect BUNDLE` compares every file with `contract.json`; the pair's fingerprint is `{contract.fingerprint}`. "
        f"`privpart-keras serve BUNDLE` serves `{contract.server_folder}`, which is all that the server gets. Made with {made}."
    )


def _number(value: float | None, otherwise: str = "not measured", places: int = 3) -> str:
    return otherwise if value is None else f"{value:.{places}f}"
