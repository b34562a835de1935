//! Checks of the house itself: absences, layout, documents.
