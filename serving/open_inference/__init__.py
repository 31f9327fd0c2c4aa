"""The Open Inference Protocol (KServe's v2), spoken by Triton, OpenVINO Model Server, MLServer and KServe."""
