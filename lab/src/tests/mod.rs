//! Tests of the simulator.

mod kinds;
mod theory;
