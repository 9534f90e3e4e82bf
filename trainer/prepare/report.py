"""What a preparation kept, what it dropped and why: JSON, and Markdown to read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from trainer.prepare.setting import REASONS


def make_report(manifest: dict[str, Any], version: str, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    files = [file for part in parts for file in part["files"]]
    clips = [clip for shard in manifest["shards"] for clip in shard["clips"]]
    held_out = set(manifest["held_out"])
    dropped = [file for file in files if "reason" in file]
    counts = Counter(file["reason"] for file in dropped)
    return {
        "version": version,
        "setting": manifest["setting"],
        "factors": manifest["factors"],
        "files": len(files),
        "files_kept": len(files) - len(dropped),
        "clips": len(clips),
        "identities": len({clip["identity"] for clip in clips}),
        "held_out_identities": len(held_out),
        "held_out_clips": sum(clip["identity"] in held_out for clip in clips),
        "shards": len(manifest["shards"]),
        "bytes": sum(shard["size_bytes"] for shard in manifest["shards"]),
        "dropped": {reason: counts[reason] for reason in sorted(counts, key=lambda name: (-counts[name], name))},
        "dropped_files": dropped,
    }


def markdown(report: dict[str, Any], most: int = 200) -> str:
    rows = [f"| {reason} | {count} | {REASONS[reason]} |" for reason, count in report["dropped"].items()]
    listed = [f"- `{file['key']}`: {file['reason']} {file['detail']}".rstrip() for file in report["dropped_files"]]
    if len(listed) > most:
        listed = [*listed[:most], f"- ... and {len(listed) - most} more: report.json has them all"]
    meaning = "true ones, of sidecars" if report["factors"] == "true" else "read by the priors"
    return "\n".join(
        [
            f"# Dataset {report['version'][:12]}",
            "",
            f"{report['clips']} clips of {report['identities']} identities from {report['files_kept']} of "
            f"{report['files']} files; {report['held_out_clips']} clips of {report['held_out_identities']} of them are "
            f"held out. {report['shards']} shards, {report['bytes'] / 1e6:.1f} MB in all. Factors: {meaning}.",
            "",
            "| dropped because | files | |",
            "|---|---|---|",
            *(rows or ["| nothing | 0 | |"]),
            "",
            *listed,
            "",
        ]
    )
