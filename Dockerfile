# lora-mnist for the CPU, as a user that is not root. The folder of artifacts is a volume:
#   docker build -t lora-mnist . && docker run --rm -v lora-runs:/work lora-mnist reproduce
FROM python:3.12-slim
COPY . /source
RUN pip install --no-cache-dir uv \
  && uv pip install --system --no-cache --torch-backend cpu /source \
  && rm -r /source \
  && useradd --create-home student \
  && install -d -o student /work
USER student
WORKDIR /work
VOLUME /work
ENTRYPOINT ["lora-mnist"]
