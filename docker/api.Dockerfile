# The API: no torch, no compiler, not root. Build from the repository root: docker build -f docker/api.Dockerfile .
FROM python:3.12-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/bespoke
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY latency_tables latency_tables
COPY supernets supernets
COPY service service
COPY worker worker
RUN /opt/bespoke/bin/pip install -c constraints.txt '.[service]'

FROM python:3.12-slim
RUN useradd --uid 10001 --create-home --home-dir /data --shell /usr/sbin/nologin bespoke
COPY --from=build /opt/bespoke /opt/bespoke
ENV PATH=/opt/bespoke/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 MPLCONFIGDIR=/tmp/matplotlib BESPOKE_DATA_DIR=/data
USER bespoke
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
  CMD ["python", "-c", "import urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:8000/readyz', timeout=4)"]
CMD ["python", "-m", "service"]
