//! One file per subcommand, thin.

pub mod generate;
