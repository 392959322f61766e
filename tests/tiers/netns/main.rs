//! tier netns
