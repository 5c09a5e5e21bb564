#include "generate/text_stream.h"

#include <algorithm>
#include <utility>

namespace retort {

size_t incomplete_tail(std::string_view text) {
  for (size_t back = 1; back <= std::min<size_t>(3, text.size()); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xC0u) == 0x80u) continue;  // a continuation byte: look further back for its lead
    const size_t length = byte >= 0xF0u ? 4 : byte >= 0xE0u ? 3 : byte >= 0xC2u ? 2 : 1;
    return length > back && byte < 0xF5u ? back : 0;
  }
  return 0;
}

TextStream::TextStream(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::erase(stops_, std::string());
  for (const auto& stop : stops_) longest_ = std::max(longest_, stop.size());
}

bool TextStream::push(std::string_view token_bytes) {
  if (stopped_) return true;
  const auto from = text_.size() - std::min(text_.size(), longest_ > 0 ? longest_ - 1 : 0);
  text_ += token_bytes;
  size_t first = std::string::npos;
  for (const auto& stop : stops_) first = std::min(first, text_.find(stop, from));
  if (first == std::string::npos) return false;
  text_.resize(first);
  return stopped_ = true;
}

std::string_view TextStream::take(bool last) {
  size_t end = text_.size();
  if (!last && !stopped_) {
    size_t held = incomplete_tail(text_);
    for (const auto& stop : stops_)
      for (size_t length = std::min(stop.size() - 1, text_.size()); length > held; --length)
        if (std::string_view(text_).ends_with(std::string_view(stop).substr(0, length))) held = length;
    end -= held;
    end -= incomplete_tail(std::string_view(text_).substr(0, end));
  }
  end = std::max(end, taken_);
  const auto fresh = std::string_view(text_).substr(taken_, end - taken_);
  taken_ = end;
  return fresh;
}

}  // namespace retort
