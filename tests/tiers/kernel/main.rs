//! tier kernel
