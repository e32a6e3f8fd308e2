//! The README's tables say what the program says. `UPDATE_README=1 cargo test --test readme` writes them anew.
