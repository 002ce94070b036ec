"""The loop that makes actual what is wanted: it runs every second and at every change, also right after a start."""

import logging
import time
from dataclasses import fields

import aiohttp

from services.chassis.background import BackgroundLoop
from services.chassis.clock import now
from services.chassis.errors import ModelryError
from services.chassis.launch import LocalLauncher, Probe, ProbeState
from services.serving.control.gateways import Gateways
from services.serving.control.metering import Metering
from services.serving.control.replica_actions import ActionRunner
from services.serving.control.replica_monitor import Engine, ReplicaMonitor
from services.serving.control.weights import Weights
from services.serving.domain.deciding import Limits, Program, Seen, Verb, decide
from services.serving.domain.entities import Deployment, Replica, ReplicaState
from services.serving.domain.progress import longest_step
from services.serving.operations import adapters
from services.serving.operations.context import ServiceContext
from services.serving.operations.replicas import drop_ended, load_all

SWEEP_SECONDS = 30.0
_WATCHED = (ReplicaState.STARTING, ReplicaState.READY)
_log = logging.getLogger(__name__)


class Reconciler(BackgroundLoop):
    """Compares what is wanted with what is there, and acts."""

    def __init__(self, context: ServiceContext, launcher: LocalLauncher, weights: Weights, gateways: Gateways) -> None:
        period = context.settings.reconcile_seconds
        super().__init__("reconciler of replicas", self.tick, period, kicked=context.wake)
        self._context, self._launcher, self._weights, self._gateways = context, launcher, weights, gateways
        self._limits = Limits(**{one.name: getattr(context.settings, one.name) for one in fields(Limits)})
        self._actions = ActionRunner(context, launcher)
        self._metering = Metering(context)
        self._monitors: dict[str, ReplicaMonitor] = {}
        self._since: dict[str, tuple[ReplicaState, float]] = {}
        self._session: aiohttp.ClientSession | None = None
        self._swept = 0.0

    async def start(self) -> None:
        """Begin; the first tick finds what a dead process left."""
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))
        await super().start()

    async def stop(self) -> None:
        """Stop; replicas go on, and the next process finds them."""
        await super().stop()
        for monitor in self._monitors.values():
            monitor.stop()
        await self._weights.stop()
        await self._actions.stop()
        await self._metering.flush()
        if self._session is not None:
            await self._session.close()

    async def tick(self) -> None:
        """Compare everything once, and act."""
        everything = await load_all(self._context)
        self._forget_gone(everything)
        for deployment, replicas in everything:
            try:
                await self._one(deployment, replicas)
            except ModelryError as error:
                _log.warning("deployment %s: %s", deployment.id, error.message)
            except Exception:  # an edge: one deployment does not stop the others
                _log.exception("deployment %s", deployment.id)
        await self._metering.tick(everything)
        if time.monotonic() - self._swept > SWEEP_SECONDS:
            self._swept = time.monotonic()
            await self._sweep(everything)

    async def _one(self, deployment: Deployment, replicas: list[Replica]) -> None:
        self._weights.prepare(deployment)
        self._monitor(deployment, replicas)
        await self._note_adapters(deployment, replicas)
        seen = [await self._see(one, deployment) for one in replicas]
        model = self._weights.ready(deployment.id)
        by_id = {one.id: one for one in replicas}
        for action in decide(deployment, seen, model is not None, self._limits):
            if action.verb is Verb.REMOVE:
                await self._metering.flush(deployment.id)
            await self._actions.act(action, deployment, by_id.get(action.replica_id), model)
            if action.verb is not Verb.TERMINATE and action.verb is not Verb.START:
                self._context.wake.set()

    async def _see(self, replica: Replica, deployment: Deployment) -> Seen:
        program, words = Program.NONE, ""
        if replica.state is not ReplicaState.PENDING:
            program, words = _program(await self._launcher.probe(replica.id))
        state, since = self._since.get(replica.id, (None, 0.0))
        if state is not replica.state:
            since = time.monotonic()
            self._since[replica.id] = (replica.state, since)
        monitor = self._monitors.get(replica.id)
        cpus_only = not self._launcher.capacity.gpus
        return Seen(
            replica,
            program,
            words,
            time.monotonic() - since,
            probed=monitor.probed if monitor else False,
            still=monitor.progress.still(time.monotonic()) if monitor else 0.0,
            calls=monitor.progress.calls if monitor else 0,
            step_seconds=longest_step(deployment.facts.parameter_count, replica.cpu_count) if cpus_only else 0.0,
            acknowledged=self._gateways.know(replica.deployment_id, replica.drain_version),
            problem=monitor.problem if monitor else "",
        )

    def _monitor(self, deployment: Deployment, replicas: list[Replica]) -> None:
        """Monitor each replica that should answer, and tell the monitor which adapters it shall have."""
        model = self._weights.ready(deployment.id)
        usable = [one for one in deployment.adapters if one.engine_name]
        paths = {one.engine_name: path for one in usable if (path := self._weights.adapter_path(one))}
        required = {one.engine_name for one in usable if one.own or one.ready}
        known = {one.engine_name for one in usable}
        for replica in replicas:
            if replica.state not in _WATCHED:
                continue
            monitor = self._monitors.get(replica.id)
            if monitor is None:
                ready = replica.state is ReplicaState.READY
                if model is None and not ready:
                    continue
                assert self._session is not None, "start() opens the session"
                engine = Engine(self._session, replica.address, self._context.secret_of(replica.id))
                monitor = ReplicaMonitor(engine, deployment.served_name, model.samples if model else (), ready)
                monitor.start(self._context.settings, self._context.wake.set)
                self._monitors[replica.id] = monitor
            monitor.want(paths, required, known)

    async def _note_adapters(self, deployment: Deployment, replicas: list[Replica]) -> None:
        """Note adapters: one is ready when every replica that gets traffic has it, all or none."""
        serving = [self._monitors[one.id] for one in replicas if one.id in self._monitors and self._serves(one)]
        if not serving or any(monitor.names is None for monitor in serving):
            return
        news: dict[str, tuple[bool, str]] = {}
        for adapter in deployment.adapters:
            if not adapter.engine_name:
                continue
            on = all(adapter.engine_name in (monitor.names or ()) for monitor in serving)
            refusals = [
                monitor.refused[adapter.engine_name] for monitor in serving if adapter.engine_name in monitor.refused
            ]
            words = "" if on else (refusals or [self._weights.problem(adapter)])[0]
            if (on, words) != (adapter.ready, adapter.cause):
                news[adapter.model_version_id] = (on, words)
        if news:
            await adapters.note_adapters(deployment.id, news, self._context, now())
            self._context.wake.set()

    def _serves(self, replica: Replica) -> bool:
        """Return whether it gets traffic, or will with this tick."""
        return replica.state is ReplicaState.READY or self._monitors[replica.id].probed

    def _forget_gone(self, everything: list[tuple[Deployment, list[Replica]]]) -> None:
        self._weights.keep({deployment.id for deployment, _ in everything})
        living = {one.id: one for _, replicas in everything for one in replicas}
        for replica_id in [one for one in self._monitors if one not in living or living[one].state not in _WATCHED]:
            self._monitors.pop(replica_id).stop()
        for replica_id in [one for one in self._since if one not in living]:
            del self._since[replica_id]

    async def _sweep(self, everything: list[tuple[Deployment, list[Replica]]]) -> None:
        """End programs that no living replica stands for, and forget replicas that ended long ago."""
        living = {one.id for _, replicas in everything for one in replicas}
        for probe in await self._launcher.list():
            if probe.id.startswith("rep-") and probe.id not in living and (probe.held or probe.pid):
                self._actions.end(probe.id)
        for deployment, _ in everything:
            for replica_id in await drop_ended(deployment.id, self._context):
                await self._actions.forget(replica_id)


def _program(probe: Probe) -> tuple[Program, str]:
    if probe.state is ProbeState.RUNNING:
        return Program.RUNNING, ""
    if probe.error:
        return Program.GONE, probe.error
    if probe.exit_code is None:
        return Program.GONE, "nobody saw how"
    return Program.GONE, f"signal {-probe.exit_code}" if probe.exit_code < 0 else f"exit code {probe.exit_code}"
