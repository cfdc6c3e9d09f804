# A worker: trains, searches, exports. Build from the repository root: docker build -f docker/worker.Dockerfile .
# For a GPU build with --build-arg TORCH_INDEX=URL of the index that holds the build for your driver.
FROM python:3.12-slim AS build
ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/bespoke
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY latency_tables latency_tables
COPY supernets supernets
COPY service service
COPY worker worker
RUN if [ -n "$TORCH_INDEX" ]; then /opt/bespoke/bin/pip install -c constraints.txt --index-url "$TORCH_INDEX" torch; fi \
 && /opt/bespoke/bin/pip install -c constraints.txt '.[worker]'

FROM python:3.12-slim
RUN useradd --uid 10001 --create-home --home-dir /data --shell /usr/sbin/nologin bespoke
COPY --from=build /opt/bespoke /opt/bespoke
ENV PATH=/opt/bespoke/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 MPLCONFIGDIR=/tmp/matplotlib BESPOKE_DATA_DIR=/data
USER bespoke
WORKDIR /data
VOLUME /data
# The heartbeat of this very process in the database: a worker that hangs is not healthy, though it runs.
HEALTHCHECK --interval=30s --timeout=20s --start-period=60s CMD ["python", "-m", "worker.health"]
CMD ["python", "-m", "worker"]
