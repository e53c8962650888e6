"""The immune system: is a deployment good for the business, and what is done if it is not."""
