"""The control plane over MQTT: the agent of a device, and what its operator uses."""
