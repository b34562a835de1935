//! Checks of the house itself: absences, layout, documents. All of them are tests, in `tests/house/`.
