FROM python:3.13-slim-bookworm

# logs reach `docker logs` line by line; published ports need an address that is not loopback
ENV PYTHONUNBUFFERED=1 \
    METRICS_HOST=0.0.0.0

WORKDIR /app

COPY requirements.txt .
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore -r requirements.txt

COPY esnet_collector.py .
COPY collector collector
COPY sql sql

# readable for every user, whatever the umask of the clone; compiled now, because nothing is written here later: the root
# file system may be read-only, and any --user will do
RUN useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin collector \
    && chmod -R a+rX /app \
    && python -m compileall -q collector
USER 10001

EXPOSE 8000

# judged by points that flow, not by a program that is up; green when there is no server to ask (METRICS_PORT=0, backfill, demo)
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s --retries=3 CMD ["python", "-m", "collector.commands.healthcheck"]

# words after the image's name are the collector's command line
ENTRYPOINT ["python", "esnet_collector.py"]
