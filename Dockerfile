# Airflow with mtv in it: API server, scheduler (with its workers), DAG processor and triggerer all run from this image.
# The mover's image, which runs beside the disks, is another one.
FROM python:3.11-slim-bookworm AS build
# ovirt-engine-sdk-python has no wheel and is compiled here; nothing of the compiler reaches the final image.
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev libxml2-dev \
 && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/mtv
ENV PATH=/opt/mtv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.txt /src/
RUN pip install -r /src/requirements.txt
COPY pyproject.toml README.md LICENSE /src/
COPY plugins/mtv /src/plugins/mtv
COPY mover /src/mover
RUN pip install --no-deps /src && python -m compileall -q -j 0 /opt/mtv

FROM python:3.11-slim-bookworm
RUN apt-get update \
 && apt-get install -y --no-install-recommends libxml2 tini \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 50000 --gid 0 --create-home --home-dir /opt/airflow airflow \
 && chmod 0770 /opt/airflow \
 && install -d -o 50000 -g 0 -m 0770 /opt/airflow/logs /var/lib/mtv
COPY --from=build /opt/mtv /opt/mtv
COPY plugins/mtv_plugin.py plugins/.airflowignore /opt/airflow/plugins/
COPY dags /opt/airflow/dags
COPY include /opt/airflow/include
COPY deploy/entrypoint /entrypoint
ENV PATH=/opt/mtv/bin:$PATH \
    AIRFLOW_HOME=/opt/airflow \
    AIRFLOW__CORE__LOAD_EXAMPLES=False \
    AIRFLOW__CORE__LAZY_LOAD_PLUGINS=False \
    AIRFLOW__USAGE_DATA_COLLECTION__ENABLED=False \
    MTV_PLANS_FOLDER=/opt/airflow/include/plans \
    MTV_RULES_FOLDER=/opt/airflow/include/validation_rules \
    MTV_STATE_FOLDER=/var/lib/mtv
USER 50000:0
WORKDIR /opt/airflow
# tini hands signals on and reaps the processes that tasks leave behind.
ENTRYPOINT ["tini", "--", "/entrypoint"]
CMD ["version"]
