//! tier none
