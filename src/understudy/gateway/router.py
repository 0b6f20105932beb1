"""One router: a fleet, what it hears of its workers, and what answers clients. It listens nowhere."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from understudy.engine.hashing import DEFAULT_HASH_SEED, BlockHasher
from understudy.errors import InputError, UsageError
from understudy.gateway.access_log import AccessLog
from understudy.gateway.admission import Admission
from understudy.gateway.explain import explain
from understudy.gateway.fleet import MAX_MEMBERS, Fleet, FleetLimits, Policy
from understudy.gateway.forward import Forwarder, ForwardSettings
from understudy.gateway.kv_events import event_context
from understudy.gateway.member import Member
from understudy.gateway.metrics import RouterMetrics
from understudy.gateway.news import News, NewsTools
from understudy.gateway.observer import Exchange, Observer
from understudy.gateway.outcome import Outcome
from understudy.gateway.prompt import PromptReader
from understudy.gateway.reading import RequestReader
from understudy.gateway.settings import RouteSettings
from understudy.gateway.tracing import Tracing
from understudy.gateway.upstream import Upstream, WorkerAddress
from understudy.gateway.worker_http import question_session
from understudy.gateway.workers_file import addresses_in
from understudy.routing import RetryBudget
from understudy.tokenize import load_chat_template, load_tokenizer
from understudy.web import ApiKeys, CorsPolicy, HttpLimits

RETRY_PERCENT = 16
"""Of the requests under way, those being tried again among them: so workers that all refuse get a fifth more than clients send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where a router gets what it cannot know itself: `policy` by a name that a user gave, and the settings anew."""

    policy: Callable[[str], Policy]
    settings: Callable[[], RouteSettings]


class Router:
    """Make it within the event loop, let the settings' workers join by `follow_workers`, and `close` it at the end.

    Raises UsageError and InputError for settings that cannot be used.
    """

    def __init__(self, settings: RouteSettings, sources: Sources) -> None:
        self.settings = settings
        self._sources = sources
        self.limits = HttpLimits(body_bytes=settings.max_body_bytes)
        self.hasher = BlockHasher(
            settings.prefix_caching_hash_algo, settings.block_size, settings.hash_seed or DEFAULT_HASH_SEED
        )
        self.tokenizer = load_tokenizer(settings.tokenizer)
        self._template = (
            None if settings.chat_template is None else load_chat_template(settings.chat_template)
        )
        self.prompts = PromptReader(self.tokenizer, self.hasher, self._template)
        self.fleet = Fleet(
            sources.policy(settings.policy),
            FleetLimits(
                max_in_flight_per_worker=settings.max_in_flight_per_worker,
                max_blocks_per_worker=settings.max_blocks_per_worker,
                own_record_seconds=settings.own_record_seconds,
            ),
            seed=settings.seed,
        )
        self.admission = Admission(self.fleet.has_room, settings.queue_size, settings.queue_seconds)
        self.fleet.on_room = self.admission.room_made
        self.metrics = RouterMetrics(self.fleet.figures, lambda: self.admission.num_waiting)
        self._observers: list[Observer] = [self.metrics]
        self._log = AccessLog()
        self._tracing = None if settings.otlp_endpoint is None else Tracing(settings.otlp_endpoint)
        if self._tracing is not None:
            self._observers.append(self._tracing)
        self.keys = ApiKeys(settings.api_key)
        self.reader = RequestReader(
            self.prompts,
            lambda: self.fleet.adapters,
            self.limits,
            keeps_keys=bool(settings.api_key),
            worker_api_key=settings.worker_api_key,
            salts_by_key=settings.tenant_salt == "key",
            salt_secret=settings.tenant_salt_secret,
            tracing=self._tracing,
        )
        self.cors = CorsPolicy(settings.allowed_origins) if settings.allowed_origins else None
        self.forwarder = Forwarder(
            self.fleet,
            self.reader.read,
            self,
            RetryBudget(percent=RETRY_PERCENT),
            _forward_settings(settings),
            admission=self.admission,
            cors=self.cors,
        )
        self._heard = asyncio.Event()
        self._worker_tls = self._trusted()
        self._questions = question_session(self._worker_tls)
        self.session = question_session(self._worker_tls)
        """For what clients ask of all workers: however much that is, the router's own questions go on."""
        self._event_context = event_context()
        self._tools = NewsTools(
            settings=settings,
            session=self._questions,
            tokenizer=self.tokenizer,
            chat_template=self._template,
            context=self._event_context,
            random=Random(settings.seed),
            on_changed=self._heard.set,
        )
        self._configured: set[str] = set()
        self._news: dict[Member, News] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Let go of all workers."""
        for member in list(self.fleet):
            self.fleet.remove(member)
        if self._closing:
            await asyncio.wait(self._closing)
        await self._questions.close()
        await self.session.close()
        self._event_context.term()
        if self._tracing is not None:
            await self._tracing.close()

    async def heard_of_all(self, seconds: float) -> None:
        """Return when it is known of each worker how it is and what it holds, or after so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not all(news.is_settled for news in self._news.values()) or not self.fleet.is_ready:
                    self._heard.clear()
                    await self._heard.wait()

    # -- workers -------------------------------------------------------------------------------------------

    def add_worker(self, url: str) -> Member:
        """Let a worker join; raises UsageError for what is no address, or in the fleet already."""
        address = WorkerAddress.parse(url)
        upstream = Upstream(
            address,
            ssl_context=self._worker_tls if address.is_tls else None,
            connect_seconds=self.settings.connect_seconds,
        )
        member = self.fleet.add(address.url, upstream)
        news = self._news[member] = News(self.fleet, member, self._tools)
        member.on_left = lambda: self._left(member)
        news.start()
        return member

    def _left(self, member: Member) -> None:
        news = self._news.pop(member)
        news.left()
        closing = asyncio.get_running_loop().create_task(news.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def cache_was_reset(self, member: Member) -> None:
        """Note that a worker has dropped all that it had cached."""
        if (news := self._news.get(member)) is not None:
            news.cache_was_reset()

    def follow_workers(self) -> None:
        """Read the workers' file, if there is one: those that are new there join, those that were there leave when done.

        Whoever has left by another order stays away until the settings or the file have named others in between. Raises
        InputError where the file cannot be read, UsageError for what is no address; nothing has changed then.
        """
        from_file = () if self.settings.workers_file is None else addresses_in(self.settings.workers_file)
        wanted = {WorkerAddress.parse(url).url for url in (*self.settings.worker, *from_file)}
        if len(wanted.union(member.name for member in self.fleet)) > MAX_MEMBERS:
            raise UsageError(f"a router can have {MAX_MEMBERS} workers, not more")
        for name in sorted(self._configured - wanted):
            if name in self.fleet:
                self.fleet.drain(self.fleet[name])
        for name in sorted(wanted - self._configured):
            if name in self.fleet:
                self.fleet.keep(self.fleet[name])
            else:
                self.add_worker(name)
        self._configured = wanted

    def _trusted(self) -> ssl.SSLContext:
        authorities = self.settings.worker_ca
        try:
            return ssl.create_default_context(cafile=authorities)
        except (OSError, ssl.SSLError) as error:
            raise InputError(f"--worker-ca {authorities}: no certificates: {error}") from error

    # -- what may change while it runs ---------------------------------------------------------------------

    def use_policy(self, name: str) -> None:
        """Decide by another policy from now on; raises UsageError where there is none of that name."""
        self.fleet.use(self._sources.policy(name))
        self.settings = replace(self.settings, policy=name)

    def reload(self) -> list[str]:
        """Read the settings anew and use them; returns the flags whose change needs a restart.

        Raises UsageError or InputError for settings that cannot be used; nothing has changed then.
        """
        others = self._sources.settings()
        settings = self.settings.reloaded(others)
        policy = self._sources.policy(settings.policy)
        before, self.settings = self.settings, settings
        try:
            self.follow_workers()
        except (UsageError, InputError):
            self.settings = before
            raise
        if settings.policy != before.policy:
            self.fleet.use(policy)
        self.keys = ApiKeys(settings.api_key)
        self.reader.keeps_keys = bool(settings.api_key)
        self.forwarder.settings = _forward_settings(settings)
        self.fleet.limits = replace(
            self.fleet.limits, max_in_flight_per_worker=settings.max_in_flight_per_worker
        )
        self.admission.max_waiting = settings.queue_size
        self.admission.max_seconds = settings.queue_seconds
        return settings.needing_restart(others)

    # -- what is told --------------------------------------------------------------------------------------

    def answered(self, exchange: Exchange) -> None:
        """Pass on all about a request to whoever counts, logs or traces."""
        for observer in self._observers:
            observer.answered(exchange)
        if self.settings.access_log:
            self._log.answered(exchange)

    def retried(self, member: Member, outcome: Outcome) -> None:
        """Pass on that another worker is asked."""
        for observer in self._observers:
            observer.retried(member, outcome)

    def observe(self, observer: Observer) -> None:
        """Tell one more about each request."""
        self._observers.append(observer)

    def explained(self, path: str, body: bytes) -> Mapping[str, Any]:
        """Return what every policy would choose for a request; raises UsageError where it has no prompt."""
        prompt = self.prompts.read(path, body, self.fleet.adapters) if self.prompts.has_prompt(path) else None
        if prompt is None:
            raise UsageError(f"{path} with this body has no prompt that could be read")
        return explain(self.fleet, self.reader.inbound(path, body, prompt))

    def worker_documents(self) -> list[dict[str, Any]]:
        """Return what is known of each worker, as JSON documents."""
        return [
            {
                "url": member.name,
                "health": str(self.fleet.health_of(member)),
                "draining": member.is_draining,
                "slow": self.fleet.is_slow(member),
                "knowledge": str(self.fleet.state.knowledge_of(member.slot)),
                "notes": self._news[member].notes,
                "models": sorted(member.models),
                "in_flight": figures.in_flight,
                "blocks_known": figures.blocks_known,
                "running": figures.running,
                "waiting": figures.waiting,
                "kv_usage": figures.kv_usage,
            }
            for member, figures in zip(self.fleet, self.fleet.figures(), strict=True)
        ]


def _forward_settings(settings: RouteSettings) -> ForwardSettings:
    return ForwardSettings(
        retries=settings.retries,
        retry_unanswered=settings.retry_unanswered,
        idle_seconds=settings.idle_seconds,
        worker_headers=settings.worker_headers,
    )
