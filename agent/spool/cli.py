"""`labrelay agent spool`: what is on the disk, above all in quarantine, and what to do with it.

Reads through a connection of its own and never writes batches: `resend` and `discard` leave a request in the file,
which the agent carries out within seconds, or when it starts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sqlite3
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import aiosqlite

from agent.spool.batch import Standing
from agent.spool.connection import BUSY_TIMEOUT_S, FORMAT, SpoolDamaged, translate
from agent.spool.lock import SpoolLock
from agent.spool.merge import verify
from agent.spool.writer import FILE_NAME, LOCK_NAME
from shared.errors import LabrelayError, SpoolUnavailable
from shared.wire import Kind

LISTED_MAX = 200


def main(argv: Sequence[str], data_dir: Path) -> int:
    """Run one command on the spool in `data_dir`. Returns: the exit status; explanations go to stderr."""
    arguments = _parser().parse_args(argv)
    try:
        return asyncio.run(_run(arguments, data_dir))
    except LabrelayError as error:
        print(f"labrelay agent spool: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="labrelay agent spool", description="What waits on this computer's disk.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("list", help="how much waits, and what is in quarantine (the default)")
    export = commands.add_parser("export", help="write quarantined batches to FILE, for `labrelay wire decode`")
    export.add_argument("file", type=Path, metavar="FILE")
    export.add_argument("--all", action="store_true", help="all that is on the disk, for an import at the hub")
    resend = commands.add_parser("resend", help="offer quarantined batches to the hub again")
    discard = commands.add_parser("discard", help="delete quarantined batches for good")
    for command in (export, resend, discard):
        command.add_argument("--batch", type=int, action="append", metavar="ID", help="only this one; may be repeated")
    discard.add_argument("--yes", action="store_true", help="do not ask")
    return parser


async def _run(arguments: argparse.Namespace, data_dir: Path) -> int:
    path = data_dir / FILE_NAME
    if not path.is_file():
        raise SpoolUnavailable(f"there is no spool in {data_dir}", hint="has the agent ever run there?")
    try:
        _leave_damage_to_the_agent(path)
        async with _opened(path, write=arguments.command in ("resend", "discard")) as db:
            if arguments.command == "export":
                chosen = await _everything(db) if arguments.all else await _chosen(db, arguments.batch)
                return await _export(db, arguments.file, chosen)
            if arguments.command in ("resend", "discard"):
                return await _request(db, arguments)
            return await _list(db)
    except sqlite3.Error as error:
        raise translate(error) from error


def _leave_damage_to_the_agent(path: Path) -> None:
    """Where no agent runs, ours would be the connection that merges the log, and drops what lies behind damage in it.

    Raises: SpoolDamaged.
    """
    try:
        owner = SpoolLock(path.with_name(LOCK_NAME))
    except SpoolUnavailable:  # the agent runs, and has looked
        return
    try:
        verify(path)
    except SpoolDamaged as error:
        raise SpoolDamaged(error.message, hint="start the agent: it saves what is readable") from error
    finally:
        owner.release()


@contextlib.asynccontextmanager
async def _opened(path: Path, *, write: bool) -> AsyncIterator[aiosqlite.Connection]:
    async with aiosqlite.connect(path, timeout=BUSY_TIMEOUT_S) as db:
        if not write:
            await db.execute("PRAGMA query_only = ON")
        version = await _number(db, "PRAGMA user_version")
        if version != FORMAT:
            raise SpoolUnavailable(f"{path} has format {version}, this program knows {FORMAT}", hint="update it")
        yield db


async def _list(db: aiosqlite.Connection) -> int:
    rows = await db.execute_fetchall(
        "SELECT standing, count(*), sum(readings), sum(bytes), min(from_us) FROM batches GROUP BY standing"
    )
    found = {Standing(row[0]): row[1:] for row in rows}
    print(f"{'':12} {'batches':>10} {'readings':>12} {'bytes':>14}  oldest")
    for standing in Standing:
        batches, readings, size, oldest_us = found.get(standing, (0, 0, 0, None))
        print(f"{standing.name.lower():12} {batches:>10} {readings:>12} {size:>14}  {_time(oldest_us)}")
    quarantined = await db.execute_fetchall(
        "SELECT b.id, e.epoch, b.seq, b.kind, b.readings, b.from_us, b.to_us, b.reason FROM batches b"
        " JOIN epochs e ON e.ref = b.epoch WHERE b.standing = 2 ORDER BY b.id LIMIT ?",
        (LISTED_MAX + 1,),
    )
    for number, (batch_id, epoch, seq, kind, readings, from_us, to_us, reason) in enumerate(quarantined):
        if number == LISTED_MAX:
            print(f"… and more than {LISTED_MAX}")
            break
        what = f"{readings} readings" if kind == Kind.DATA else Kind(kind).name.lower()
        print(f"batch {batch_id}: {epoch.hex()}/{seq}, {what}, {_time(from_us)} … {_time(to_us)}: {reason}")
    waiting = await _number(db, "SELECT count(*) FROM requests")
    if waiting:
        print(f"{waiting} requests wait for the agent")
    return 0


async def _export(db: aiosqlite.Connection, file: Path, chosen: list[int]) -> int:
    """Write the batches' bytes, one behind the other: the wire's own form."""
    written = 0
    try:
        with file.open("xb") as target:
            for batch_id in chosen:
                async with db.execute("SELECT content FROM contents WHERE id = ?", (batch_id,)) as cursor:
                    row = await cursor.fetchone()
                if row is not None:
                    written += target.write(row[0])
            target.flush()
            os.fsync(target.fileno())
    except OSError as error:
        raise SpoolUnavailable(f"{file} cannot be written: {error.strerror}") from error
    print(f"{len(chosen)} batches, {written} bytes written to {file}; they stay in the spool")
    return 0


async def _request(db: aiosqlite.Connection, arguments: argparse.Namespace) -> int:
    chosen = await _chosen(db, arguments.batch)
    if arguments.command == "discard" and chosen and not arguments.yes and not _agreed(len(chosen)):
        return 1
    await db.executemany(
        "INSERT INTO requests (verb, batch_id) VALUES (?, ?)", [(arguments.command, batch_id) for batch_id in chosen]
    )
    await db.commit()
    print(f"{len(chosen)} batches: {arguments.command} requested; the agent does it within seconds, or when it starts")
    return 0


async def _everything(db: aiosqlite.Connection) -> list[int]:
    """All batches, in the order in which they were taken: dictionaries come before what refers to them."""
    return [int(row[0]) for row in await db.execute_fetchall("SELECT id FROM batches ORDER BY id")]


async def _chosen(db: aiosqlite.Connection, ids: list[int] | None) -> list[int]:
    rows = await db.execute_fetchall("SELECT id FROM batches WHERE standing = 2 ORDER BY id")
    quarantined = [int(row[0]) for row in rows]
    unknown = sorted(set(ids or ()) - set(quarantined))
    if unknown:
        raise SpoolUnavailable(f"not in quarantine: {', '.join(map(str, unknown))}", hint="`labrelay agent spool list`")
    return [batch_id for batch_id in quarantined if ids is None or batch_id in ids]


def _agreed(batches: int) -> bool:
    print(f"{batches} batches will be deleted for good; `export` keeps a copy. Continue? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


async def _number(db: aiosqlite.Connection, sql: str) -> int:
    async with db.execute(sql) as cursor:
        row = await cursor.fetchone()
    return int(row[0]) if row else 0


def _time(timestamp_us: int | None) -> str:
    if not timestamp_us:
        return "-"
    return datetime.fromtimestamp(timestamp_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
