// SIGINT, SIGTERM and SIGHUP (a terminal that is closed) ask for a clean stop; a second SIGINT leaves at
// once.
#pragma once
#include <string_view>

namespace retort {

void catch_stop_signals();
bool stop_requested();
int stop_signal();    // the last one that asked; 0 when none did
void request_stop();  // for tests
void forget_stop();   // an answered Ctrl-C in a chat; tests
// Throws Stopped("stopped while WHAT ...") when a stop was asked for. Call it in every loop that can run for
// a second.
void leave_if_stopped(std::string_view doing_what);

}  // namespace retort
