//! A cluster of one: the roster is the directory, the bus is a loop-back.
