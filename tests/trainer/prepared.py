"""How the tests' puppets are written and prepared: three people, a clip of 15 frames each, in VoxCeleb2's layout."""

from __future__ import annotations

from trainer.prepare.setting import PrepareSetting
from trainer.puppets.write import WriteSetting

PREPARED = PrepareSetting(size=64, frames=10, loose=3, most=1, files_a_shard=1, held_out=0.3, pictures="raw")
FILMED = WriteSetting(3, 256, 144, seconds=0.6, seed=3, per_identity=1, layout="voxceleb2")
