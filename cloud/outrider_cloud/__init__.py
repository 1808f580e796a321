"""The cloud: the target model, the engine that verifies drafts with it, and the gRPC service.

Never imports onnxruntime or the edge package.
"""
