"""What keys and the palette do about models."""

from __future__ import annotations

from app.dashboard.model_dispatch import ModelDispatch
from app.dashboard.screens.machine_keys import MachineKeys
from engine.snapshot import EngineSnapshot, SwapRow
from widgets.format import clean


class ModelKeys(MachineKeys):
    """A screen from which the model can be changed."""

    _wanted_model = ""
    """The model that was asked for here; its outcome is told in the engine's own words."""

    def action_models(self) -> None:
        """Shows the models there are, and swaps to the one that is chosen and confirmed."""
        from app.dashboard.screens.models import ModelsScreen, Wish

        def chosen(wish: Wish | None) -> None:
            if wish is not None:
                self._wanted_model = wish.model_id
                ModelDispatch(self._engine, self).swap(wish.model_id, wish.kv_bits)

        self.app.push_screen(ModelsScreen(self._engine, self._marks), chosen)

    def _tell_of_swap(self, before: SwapRow | None, shown: EngineSnapshot) -> None:
        """Says how a swap ended that somebody else asked for."""
        if before is None or shown.swap is not None or before.to_model == self._wanted_model:
            return
        if shown.model == before.to_model:
            self._say(f"{clean(shown.model)} serves now in place of {clean(before.from_model)}")
        else:
            self._say(f"{clean(before.to_model)} does not serve; see the events", is_bad=True)
