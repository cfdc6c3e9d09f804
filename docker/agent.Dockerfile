# The measuring agent, for devices that run containers. Build from the repository root: docker build -f docker/agent.Dockerfile .
# docker run IMAGE --server URL --token TOKEN
FROM python:3.12-slim
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY latency_tables latency_tables
COPY supernets supernets
COPY service service
COPY worker worker
RUN pip install -c constraints.txt '.[agent]' && rm -rf /src \
 && useradd --uid 10001 --create-home --home-dir /data --shell /usr/sbin/nologin bespoke
USER bespoke
WORKDIR /data
VOLUME /data
ENTRYPOINT ["bespoke", "agent", "--state-dir", "/data/agent"]
