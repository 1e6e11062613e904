"""The front door of a checkout. Options and features register themselves where they live: `fixtures/*/options.py`."""

pytest_plugins = ("trtverify.fixtures.plugin", "trtverify.fixtures.features")
