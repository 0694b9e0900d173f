# The search page of an index, with torch for CPUs. docs/install.md says how to build and run it.
FROM python:3.13-slim AS build
RUN pip install --no-cache-dir uv
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1
RUN uv venv /opt/vggfeat
WORKDIR /source
COPY pyproject.toml PACKAGE.md LICENSE LICENSE-weights ./
COPY vggfeat vggfeat
RUN uv pip install --python /opt/vggfeat/bin/python --torch-backend cpu ".[fast,formats,web]"

FROM python:3.13-slim
COPY --from=build /opt/vggfeat /opt/vggfeat
RUN useradd --create-home --uid 10001 vggfeat
USER vggfeat
ENV PATH=/opt/vggfeat/bin:$PATH
# Indexes and photos are mounted here, read-only; the index names its photos by their path.
VOLUME /data
WORKDIR /data
EXPOSE 8000
ENTRYPOINT ["vggfeat"]
CMD ["serve", "photos.index", "--host", "0.0.0.0", "--port", "8000"]
