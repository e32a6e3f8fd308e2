//! The cluster over Redis.
