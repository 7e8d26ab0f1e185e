"""Tallies of single sensors, and all of them together."""

from __future__ import annotations

from collections.abc import Sequence

from hub.agents.epochs import Range
from hub.certificates.counts import Tally
from hub.certificates.rules import count
from hub.certificates.views import AgentCertificate, SensorCertificate, TallyView, Totals


def totals_of(sensors: Sequence[SensorCertificate], agents: Sequence[AgentCertificate], *, retention: bool) -> Totals:
    """Of a session.

    Args:
        retention: whether it may have dropped readings: then that some are not there proves nothing.
    """
    epochs = [epoch for agent in agents for epoch in agent.epochs]
    absent = 0 if retention else sum(max(epoch.stored - epoch.present, 0) for epoch in epochs)
    return sum_up(sensors, unexplained_readings=absent, unexplained_batches=sum(map(unexplained_of, agents)))


def sum_up(sensors: Sequence[SensorCertificate], *, unexplained_readings: int, unexplained_batches: int) -> Totals:
    """All sensors together."""
    missing = [one for sensor in sensors for one in sensor.missing]
    return Totals(
        agents=_sum([sensor.agents for sensor in sensors]),
        posts=_sum([sensor.posts for sensor in sensors]),
        missing=sum(one.readings for one in missing),
        missing_uncounted=sum(one.uncounted for one in missing),
        dropped_by_retention=sum(sensor.dropped_by_retention for sensor in sensors),
        unexplained_readings=unexplained_readings,
        unexplained_batches=unexplained_batches,
    )


def unexplained_of(agent: AgentCertificate) -> int:
    """How many batches of an agent are neither stored nor explained."""
    return count(Range(one.first, one.last) for epoch in agent.epochs for one in epoch.unexplained)


def tally_view(tally: Tally) -> TallyView:
    """As it is shown."""
    return TallyView(
        taken=tally.taken,
        stored=tally.stored,
        held=tally.held,
        repeated=tally.repeated,
        set_aside=dict(sorted(tally.set_aside.items())),
    )


def _sum(tallies: Sequence[TallyView]) -> TallyView:
    reasons: dict[str, int] = {}
    for tally in tallies:
        for reason, readings in tally.set_aside.items():
            reasons[reason] = reasons.get(reason, 0) + readings
    return TallyView(
        taken=sum(one.taken for one in tallies),
        stored=sum(one.stored for one in tallies),
        held=sum(one.held for one in tallies),
        repeated=sum(one.repeated for one in tallies),
        set_aside=dict(sorted(reasons.items())),
    )
