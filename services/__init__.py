"""The model services: generation, critique, instruction, editing, reward; none imports another."""
