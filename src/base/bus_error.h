// A mapped file that somebody truncates while it is read raises SIGBUS. The handler turns that into one error
// line naming the file and leaves with Exit::bad_input; a page that is there and cannot be read (EIO) is one
// of Exit::machine_failed; a SIGBUS anywhere else keeps its usual meaning.
#pragma once
#include <cstddef>
#include <string_view>

namespace retort {

struct MappedRange;

// Once, at the start of the program.
void catch_bus_errors();

// MappedFile announces what it maps, so that the handler can tell whose page is gone.
// DESCRIPTOR stays open as long as the range.
MappedRange* add_mapped_range(const std::byte* begin, size_t size, std::string_view name, int descriptor);
void remove_mapped_range(MappedRange* range);

}  // namespace retort
