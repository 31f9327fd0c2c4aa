"""What TensorFlow says of retracing is dropped while an audit runs, and nothing else is."""

import logging

from keras_privpart.quiet import without_retracing

REMARK = "5 out of the last 26 calls to %s triggered tf.function retracing. Tracing is expensive"


def test_remarks_on_retracing_are_dropped_and_others_are_not(caplog):
    logger = logging.getLogger("tensorflow")
    with without_retracing():
        logger.warning(REMARK, "a function")
        logger.warning("another thing")
    assert {record.getMessage() for record in caplog.records} == {"another thing"}
    logger.warning(REMARK, "a function")
    assert any("triggered tf.function retracing" in record.getMessage() for record in caplog.records)
