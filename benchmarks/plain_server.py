"""The usual wrapper, to compare with: FastAPI, one NeMo model, `transcribe()` in each request.

python benchmarks/plain_server.py MODEL.nemo --port 8001
"""

import argparse
import io
import logging
import tempfile
from pathlib import Path
from typing import Annotated

import soundfile
import uvicorn
from fastapi import FastAPI, File, UploadFile
from nemo.collections.asr.models import ASRModel
from nemo.utils import logging as nemo_logging


def create_app(nemo: Path) -> FastAPI:
    """Return the application."""
    nemo_logging.setLevel(logging.ERROR)
    model = ASRModel.restore_from(str(nemo), map_location="cpu").eval()
    app = FastAPI()

    @app.get("/health/ready")
    async def ready() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/transcribe")
    @app.post("/v1/audio/transcriptions")
    async def transcribe(file: Annotated[UploadFile, File()]) -> dict[str, object]:
        recording = await file.read()
        with tempfile.NamedTemporaryFile(suffix=".wav") as copy:
            copy.write(recording)
            copy.flush()
            result = model.transcribe([copy.name], batch_size=1, verbose=False)[0]
        return {"text": result.text, "audio": {"duration": soundfile.info(io.BytesIO(recording)).duration}}

    return app


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nemo", type=Path)
    parser.add_argument("--port", type=int, default=8001)
    arguments = parser.parse_args()
    uvicorn.run(create_app(arguments.nemo), port=arguments.port, log_level="warning")


if __name__ == "__main__":
    main()
