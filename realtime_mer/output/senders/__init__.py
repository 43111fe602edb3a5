"""What other programs get while a session runs: Lab Streaming Layer, OSC and MQTT."""
