"""Faults of time: the clock of an agent's or of the hub's machine is set, forth or back, while it runs."""

from __future__ import annotations

from bench.chaos.scene import Scene, agent_down

_LEFT_OUT = "left out: takes libfaketime"


def step_agent_clock(scene: Scene) -> str:
    """An agent's clock is set, with the link up or cut and perhaps a restart under way, and later set right."""
    which = scene.agent()
    agent = scene.stack.agents[which]
    if not agent.clock.can_step:
        return _LEFT_OUT
    offset_s, cut, restarted = _draw(scene), scene.random.random() < 0.5, scene.random.random() < 0.5
    if cut:
        scene.stack.links.cut("agents")
    agent.clock.step(offset_s)
    wrong_s = scene.seconds(0.5, 3.0)
    if restarted:
        with agent_down(scene, which):
            pass
        wrong_s += scene.seconds(0.5, 2.0)
    agent.clock.step(0.0)
    if cut:
        scene.stack.links.heal("agents", reset=False)
    more = f"{', with the link cut' if cut else ''}{', and restarted meanwhile' if restarted else ''}"
    return f"clock of agent {which} off by {offset_s:+.1f} s for {wrong_s:.1f} s{more}"


def step_hub_clock(scene: Scene) -> str:
    """The hub's clock is set, with a restart of the hub or of an agent under it or none, and later set right."""
    stack = scene.stack
    if not stack.hub_clock.can_step:
        return _LEFT_OUT
    offset_s, restarted = _draw(scene), scene.random.choice(("nobody", "the hub", "an agent", "both"))
    stack.hub_clock.step(offset_s)
    if restarted in ("the hub", "both"):
        stack.hub.kill()
        stack.hub.start(wait=False)
    wrong_s = scene.seconds(1.0, 4.0)
    if restarted in ("an agent", "both"):
        with agent_down(scene, scene.agent()):
            pass
        wrong_s += scene.seconds(0.5, 2.0)
    stack.hub_clock.step(0.0)
    if restarted in ("the hub", "both"):
        stack.hub.kill()
        stack.hub.start(wait=False)
    return f"clock of the hub off by {offset_s:+.1f} s for {wrong_s:.1f} s, {restarted} restarted meanwhile"


def _draw(scene: Scene) -> float:
    """Seconds to minutes, forth or back."""
    size_s = scene.random.choice((scene.random.uniform(1.0, 10.0), scene.random.uniform(10.0, 300.0)))
    return scene.random.choice((-1.0, 1.0)) * size_s
