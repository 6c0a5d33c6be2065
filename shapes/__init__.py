"""A miniature world with a ground truth: scenes, renderer, prompts, exact checker and small trained models.

Nothing outside this package knows it exists, except tests and the demo: services load its models through
the `shapes` profile as they would load any other folder.
"""
