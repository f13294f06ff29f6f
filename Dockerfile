FROM python:3.13-slim-bookworm

# logs reach `docker logs` line by line; nothing is written below /app, so the root file system may be read-only
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    METRICS_HOST=0.0.0.0

WORKDIR /app

COPY requirements.txt .
RUN pip install --no-cache-dir --disable-pip-version-check -r requirements.txt

COPY esnet_collector.py .
COPY collector collector
COPY sql sql

RUN useradd --system --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin collector
USER 10001

EXPOSE 8000

# judged by points that flow, not by a process that is up; green when METRICS_PORT is 0
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s --retries=3 CMD ["python", "-m", "collector.healthcheck"]

# words after the image's name are the collector's command line
ENTRYPOINT ["python", "esnet_collector.py"]
