//! What needs a kubelet: containers from images.
