"""Ids in paths. Whatever cannot be an id names nothing, and is answered like that."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path

BatchId = Annotated[str, Path(examples=["bat_0192f3a1b2c37d4e8f00112233445566"])]
JobId = Annotated[str, Path(examples=["job_0192f3a1b2c37d4e8f00112233445566"])]
ClipId = Annotated[
    str, Path(examples=["job_0192f3a1b2c37d4e8f00112233445566"], description="The id of the clip's job, of any tenant.")
]
AssetId = Annotated[str, Path(examples=["ast_0192f3a1b2c37d4e8f00112233445566"])]
WorkerId = Annotated[str, Path(examples=["wrk_0192f3a1b2c37d4e8f00112233445566"])]
KeyId = Annotated[str, Path(examples=["key_0192f3a1b2c37d4e8f00112233445566"])]
EndpointId = Annotated[str, Path(examples=["whe_0192f3a1b2c37d4e8f00112233445566"])]
DeliveryId = Annotated[str, Path(examples=["whd_0192f3a1b2c37d4e8f00112233445566"])]
TenantId = Annotated[str, Path(examples=["ten_0192f3a1b2c37d4e8f00112233445566"])]
RunId = Annotated[str, Path(examples=["run_0192f3a1b2c37d4e8f00112233445566"])]
ScheduleName = Annotated[str, Path(examples=["weekly"])]
GridName = Annotated[str, Path(examples=["after_lip.png"])]
Model = Annotated[str, Path(examples=["pdfgc"])]
VersionText = Annotated[str, Path(examples=["tiny-untrained"], description="A version's id or name.")]
AliasName = Annotated[str, Path(examples=["champion"])]
