//! Plans, against a pod that is carried along: cases by hand, and ten thousand by dice.

mod cases;
mod random;
mod world;
