// The part of the Python module that drafts.
#pragma once

#include <nanobind/nanobind.h>

void bind_drafting(nanobind::module_& m);
