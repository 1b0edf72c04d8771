"""What several gateways share over Redis."""
