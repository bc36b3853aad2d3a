"""The laws that every adapter obeys, by what they are about; `equiprune.testing.AdapterContract` is all of them.

Every assertion says in words of its own what is broken, so that a test of the laws can tell which one has caught what.
"""
