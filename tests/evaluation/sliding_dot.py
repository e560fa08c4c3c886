"""An environment of gymnasium that renders plain arrays, for tests of films. Imported only where gymnasium is."""

import gymnasium
import numpy as np


class SlidingDot(gymnasium.Env):
    """A dot that actions push along a line, and that should be at ``goal``; ends where ``limit`` is passed.

    A picture is of one colour, which says how much time has passed and where the dot is.
    """

    def __init__(self, goal=0.0, limit=100.0, render_mode=None, fault=None):
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,))
        self.action_space = gymnasium.spaces.Box(np.float32(-1), np.float32(1), (1,))
        self.goal, self.limit, self.render_mode, self.fault = goal, limit, render_mode, fault

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.place = 0, self.np_random.normal()
        return np.array([self.place], np.float32), {}

    def step(self, action):
        self.time, self.place = self.time + 1, self.place + float(action[0])
        return np.array([self.place], np.float32), -abs(self.place - self.goal), abs(self.place) > self.limit, False, {}

    def render(self):
        if self.render_mode != "rgb_array" or self.fault == "nothing":
            return None
        if self.fault == "raises":
            raise OSError("libGL.so: cannot open shared object file\nand more lines")
        return np.full((24, 32, 3), colour(self.time, np.float32(self.place)), np.uint8)


def colour(time, place):
    """The colour of the picture after so many steps, with the dot at a place."""
    return [40 + 2 * time, round(128 + 100 * float(np.sin(float(place)))), 200]


def without_render_mode(goal=0.0):
    """An environment that cannot be told to render."""
    return SlidingDot(goal)
